// Apart from what makes the folder, so that commands get it without the database's code.

/** The public folder's id, literally: Terraform and Packer look for it (facts, section 1.6). */
export const standardImagesFolderId = 'standard-images';
