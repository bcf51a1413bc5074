"""The benchmark report: one JSON document, and the tables, charts and page that are made of it."""
