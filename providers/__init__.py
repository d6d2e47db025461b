"""Providers, which run models: one module or package for each, behind the port
`domain.ports.providers.Provider`.
"""
