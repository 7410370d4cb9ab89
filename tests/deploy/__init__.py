"""The files under deploy/ are checked by the tools that their users have."""
