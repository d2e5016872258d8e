"""How is one claimed task seen through?"""
