"""Recording a scenario on real endpoints: the same requests, gate and join as the twin's, the same tables."""
