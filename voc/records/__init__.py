"""What a VOC record is and which rows are accepted."""
