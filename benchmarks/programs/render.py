"""docutils renders a manual of so many sections as HTML."""

from __future__ import annotations

import sys

from docutils.core import publish_string

SECTION = """
Section {number}
----------------

A *paragraph* with **strong** words, ``literals``, and a `link <https://example.org/{number}>`_; it goes on for
a while, as paragraphs do, and refers to `Section {number}`_.

#. First,
#. second, with a nested list:

   - one
   - two, and a note [#]_

.. [#] The note of section {number}.

======  ======  =========
 name    size    remark
======  ======  =========
alpha       {number}  *first*
beta        3  ``second``
======  ======  =========

.. note:: Something to keep in mind.

::

    for item in range({number}):
        print(item)
"""


def manual(sections: int) -> str:
    """Its text."""
    return "Manual\n======\n" + "".join(SECTION.format(number=number) for number in range(1, sections + 1))


def main() -> None:
    """Print how long the page is."""
    page = publish_string(manual(int(sys.argv[1])), writer="html5", settings_overrides={"report_level": 5})
    print(len(page))


if __name__ == "__main__":
    main()
