"""What the tests share: real servers started on loopback, and conditions to wait for."""
