"""Images: files and folders of them, preprocessing, pictures that are drawn, ResNet and suppression."""
