"""The one static page of a run, reports/index.html: pictures, charts, style and script are all inside the file.

``content`` says what the page shows, ``pictures`` and ``palette`` make its pictures, ``charts`` its SVG, ``text`` its
numbers and sentences, and ``render`` the HTML from ``templates``.
"""
