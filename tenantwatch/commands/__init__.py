"""The commands, one module for each noun.

A command reads its arguments, calls one function of the packages below and prints.
Nothing here decides anything about events, alerts or storage.
"""
