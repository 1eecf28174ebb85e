"""Where spans rest. Each module is one sink; `base` says what a sink is."""
