"""What the web kit raises besides the errors of the manager. `HoldfastMiddleware` turns both into answers.

They are no HTTP exceptions, so that a framework's own handler for those does not put a body of its own around them.
An application that wants another answer, such as a redirect to its log-in page, handles them by name.
"""

from holdfast.sessions.errors import HoldfastError


class NoSession(HoldfastError):
    """The request needs a live session and has none. Answered with the one 401, whatever the reason."""


class CrossSite(HoldfastError):
    """The request would act with the visitor's cookie, and a page of the application did not make it. A 403."""
