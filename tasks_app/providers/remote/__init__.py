"""How is media made by a service behind HTTP?"""
