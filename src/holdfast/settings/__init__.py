"""Every setting, and the only reader of the environment and of secret files."""

from holdfast.settings.environment import process_environment
from holdfast.settings.table import Settings

__all__ = ["Settings", "process_environment"]
