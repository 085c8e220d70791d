"""Finding components: from package metadata alone, importing only what is used."""
