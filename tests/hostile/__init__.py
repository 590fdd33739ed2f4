"""What others may say or do to warmd: publishers, services, machines that it asks, whoever shares a disk."""
