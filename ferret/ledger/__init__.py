"""What became of every span: counts that survive the process, gaps in a run, and what a killed run has lost."""
