"""A server under everything at once for as long as wanted: does it hold more and more, or does it break?"""
