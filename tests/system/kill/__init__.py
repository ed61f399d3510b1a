"""kill -9 under load: a workload that writes down what it did, and a checker that compares it with what survived."""
