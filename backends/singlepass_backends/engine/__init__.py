"""The engine process: socket, scheduler, model thread."""
