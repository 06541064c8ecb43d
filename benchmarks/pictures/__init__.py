"""Pictures of a result, as SVG, drawn without any library."""
