"""Snapshots: exact, refused where they are not whole, right beside a busy database and when killed."""
