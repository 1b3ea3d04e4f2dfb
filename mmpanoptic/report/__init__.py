from .build import build_report
from .contents import contents_of
from .of_test import ReportOfTest
from .page import plotly_script, render_page
from .pictures import choose_images, pictures_of

__all__ = [
    'ReportOfTest',
    'build_report',
    'choose_images',
    'contents_of',
    'pictures_of',
    'plotly_script',
    'render_page',
]
