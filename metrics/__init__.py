"""What operators measure: the series, and the classes that count from outside of
everything else.
"""
