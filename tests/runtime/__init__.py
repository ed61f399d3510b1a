"""The shell: driver, service and jobs."""
