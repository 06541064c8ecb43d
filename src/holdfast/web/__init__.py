"""The web kit: what an ASGI application puts between its users and a `SessionManager`. It knows no database."""
