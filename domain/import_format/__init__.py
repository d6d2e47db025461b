"""Reads exports in `export_format`, from untrusted archives.

Every value has the type and is within the bounds of Darkroom's own records, or the export is
refused. Each id is replaced by a new one, which is always the same for one import, so that an
import that runs twice makes nothing twice.
"""
