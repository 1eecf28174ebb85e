"""How a finished span leaves the caller. Each module is one writer; `base` says what a writer is."""
