"""Recording a program's functions, without a change to them."""
