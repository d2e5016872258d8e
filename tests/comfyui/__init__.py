"""Does the service work with real ComfyUI servers? A programme that is given their addresses."""
