"""What every room uses: checks of what callers pass, JSON from people, access to files, values made once, torch's switches.

It uses the errors, and nothing else of this library. It hands on plain values and clear errors.
"""
