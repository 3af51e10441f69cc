"""What goes over the wire: shapes, the operation table, problems. No I/O."""
