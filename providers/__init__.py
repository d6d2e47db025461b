"""Those who run models: one module or folder for each, behind the port `domain.ports.Provider`."""
