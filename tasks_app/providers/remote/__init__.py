"""How is media made by a far side over HTTP?"""
