"""Streamlit widgets shared by the pages: navigation, pickers, forms, charts, live parts and errors as
sentences.
"""
