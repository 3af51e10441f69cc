"""What this build is. Packaging sets COMMIT; from a source tree it stays "unknown"."""

VERSION = "0.1.0"
COMMIT = "unknown"
