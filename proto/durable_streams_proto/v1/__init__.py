"""Version 1 of the services. Compatible changes only: fields are added, and a number that was used is never reused."""
