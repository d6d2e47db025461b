"""Reads what `export_format` has written, from archives that anybody may have made.

Every value is of the type and within the bounds that our own records have, or the export is
refused. IDs are never taken over: each old one stands for a new one, which is always the same for
one import, so that an import that is done twice makes nothing twice.
"""
