"""The result of an export or a verification, in the forms that people and machines read."""
