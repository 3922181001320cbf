"""What people see: figures, pages, live views."""
