def up(directory, plain_registries):
    raise NotImplementedError
