"""One node under attack: readers that do not read, requests that do not end, and what everybody else notices."""
