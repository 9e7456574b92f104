"""Tools for agents, by the Model Context Protocol.

They ask the service's own addresses, so that its limits, errors and answers are theirs too. It uses the rooms of the
service, and hands on a server that the application mounts or that talks over stdin and stdout.
"""
