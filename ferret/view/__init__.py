"""The page that shows a run: a timeline, a flame graph and a table, in one file that needs no network."""
