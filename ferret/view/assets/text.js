// Texts: names that nobody vouches for, numbers for people, and elements that are made without any markup.

const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** The text on one line, with every character that hides itself or steers the text around it written as an escape. */
function visible(text, longest = Infinity) {
  const shown = text.length > longest ? text.slice(0, longest - 1) + "…" : text;
  return shown.replace(UNSEEN, (one) => {
    const code = one.codePointAt(0).toString(16);
    if (code.length <= 2) return "\\x" + code.padStart(2, "0");
    return code.length <= 4 ? "\\u" + code.padStart(4, "0") : "\\U" + code.padStart(8, "0");
  });
}

/** Nanoseconds with three digits and a unit: `1.23 ms`, `45.6 µs`, `789 ns`, `1,234 s`. */
function duration(ns) {
  for (const [factor, unit] of [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"]]) {
    const value = ns / factor;
    const digits = unit === "ns" || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    if (unit === "s" || Number(value.toFixed(digits)) < 1000) return `${number(value, digits)} ${unit}`;
  }
}

function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** `1 span`, `2,000 spans`. */
function counted(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

function share(part, whole) {
  return whole > 0 ? `${number((100 * part) / whole, 1)}%` : "";
}

/** A moment on an axis whose lines are `step` nanoseconds apart. */
function moment(ns, step) {
  if (ns === 0) return "0";
  const [factor, unit] = ns >= 1e9 ? [1e9, "s"] : ns >= 1e6 ? [1e6, "ms"] : ns >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  const digits = Math.max(0, Math.ceil(Math.log10(factor / step) - 1e-9));
  return `${number(ns / factor, digits)} ${unit}`;
}

/** An element with properties and children; a text becomes a text, whatever is in it. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((one) => one != null));
  return made;
}

function find(id) {
  return document.getElementById(id);
}
