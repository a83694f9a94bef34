"""The Voice-of-Customer suite: asked, read and measured."""
