"""What an operator sees: numbers for Prometheus, and spans for OpenTelemetry. Both are observers of the manager."""
