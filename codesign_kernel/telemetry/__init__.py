"""What operators see: the structured log, the metrics, the audit trail."""
