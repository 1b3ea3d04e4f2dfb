from .build import build_report
from .contents import contents_of
from .page import render_page
from .pictures import choose_images, pictures_of

__all__ = ['build_report', 'choose_images', 'contents_of', 'pictures_of', 'render_page']
