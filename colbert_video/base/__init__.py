"""What every room uses: checks of what callers pass, JSON from people, files of users, values made once, torch's switches.

Of this library it imports only the errors and the device.
"""
