"""May this address be dialled?"""
