"""What both sides' `doctor` share: findings, the installation, places on disk."""
