import streamlit as st
st.write("soon", st.query_params.to_dict())
