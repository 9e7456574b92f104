"""What every room uses: checks of what callers pass, JSON and paths from people, access to files, values made once, torch's state.

It uses the errors and devices at the root, and no other room. It hands on plain values, or errors that say what is wrong.
"""
