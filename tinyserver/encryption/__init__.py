"""What the server does for end-to-end encryption: it keeps and hands out public keys and sealed messages."""
